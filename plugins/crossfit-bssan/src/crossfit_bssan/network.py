"""The networks of BSSAN (figures 3 and 4 of the paper), which score many pairs at once.

Everything that is linear in one item alone is computed once per item instead of once per pair.
Symbols in shapes: g groups of n images and m texts, T words, R regions, K objects. Every image of a
group is compared with every text of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crossfit.neural import (
    BilinearAttention,
    Items,
    MLPBranch,
    Standardize,
    init_weights,
    masked_softmax,
)

__all__ = ["CHANNELS", "BSSANNetwork", "Image", "ObjectToWords", "Text", "WordToRegions"]

Activation = Callable[[Tensor], Tensor] | None
# Channel of an image that each branch uses.
CHANNELS = {"w2r": "map", "o2w": "objects"}
# Number of pairs whose LSTM runs at once without gradients; their states fit into the cache.
_ROWS = 2048


class Image(NamedTuple):
    """Prepared images: (n, ...) when prepared, (g, n, ...) when compared with texts.

    Fields of a branch that is not used are None.

    Parameters
    ----------
    keys : Tensor of shape (..., n, R, E)
        Regions, mapped by W of the attention to the width of the words.
    regions : Tensor of shape (..., n, R, 4 H) or (..., n, R, d)
        Regions times the input weights of the LSTM, or unchanged.
    regions_mask : bool Tensor of shape (..., n, R), or None if all regions are real
    objects : Tensor of shape (..., n, K, B)
        Objects, mapped by W of the attention to the width of the words.
    first : Tensor of shape (..., n, K, F)
        Contribution of the objects to the first layer of the perceptron.
    objects_mask : bool Tensor of shape (..., n, K), or None
    """

    keys: Tensor | None = None
    regions: Tensor | None = None
    regions_mask: Tensor | None = None
    objects: Tensor | None = None
    first: Tensor | None = None
    objects_mask: Tensor | None = None

    def together(self) -> Image:
        """Return all images as one group."""
        return Image(*(None if part is None else part[None] for part in self))

    def take(self, rows: Tensor) -> Image:
        """Return groups of images, `rows` of shape (g, n)."""
        return Image(*(_taken(part, rows) for part in self))


class Text(NamedTuple):
    """Prepared texts: (m, ...) when prepared, (g, m, ...) when compared with images.

    Parameters
    ----------
    words : Tensor of shape (..., m, T, E)
    states : Tensor of shape (..., m, T, B), or None
        States of the bidirectional LSTM; zero after the last word.
    lengths : int64 Tensor of shape (..., m)
        Numbers of words, at least 1.
    """

    words: Tensor
    states: Tensor | None
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """Bool (..., m, T), True at words."""
        places = torch.arange(self.words.shape[-2], device=self.words.device)
        return places < self.lengths[..., None]

    def together(self) -> Text:
        """Return all texts as one group, without padding that they all have."""
        longest = int(self.lengths.max())
        states = None if self.states is None else self.states[None, :, :longest]
        return Text(self.words[None, :, :longest], states, self.lengths[None])

    def take(self, rows: Tensor) -> Text:
        """Return groups of texts, `rows` of shape (g, m)."""
        return Text(*(_taken(part, rows) for part in self))  # type: ignore[arg-type]


def _taken(part: Tensor | None, rows: Tensor) -> Tensor | None:
    # The gradient of index_select is much faster than that of an index.
    return None if part is None else part.index_select(0, rows.flatten()).unflatten(0, rows.shape)


class PairAttention(BilinearAttention):
    """Bilinear attention whose queries and vectors belong to different items."""

    def init(self) -> None:
        """Draw first weights that give logits of variance 1 if the inputs have variance 1."""
        # Logits are sums over both widths; larger ones have no gradient behind tanh.
        nn.init.normal_(self.map.weight, std=self.map.weight.numel() ** -0.5)

    def weigh(
        self, einsum: str, queries: Tensor, x: Tensor, mask: Tensor | None, learned: Tensor | None
    ) -> Tensor:
        """Return attention weights, equations 1 and 9.

        Parameters
        ----------
        einsum : str
            How logits are computed from the queries and the vectors, one of them mapped by W; the
            vectors are the last axis of the result.
        queries, x, mask, learned : Tensor
            The mask and `learned` are broadcast to the weights. `learned` is 0 where the weights
            are uniform, as for the negatives of equation 8, and 1 elsewhere; all 1 by default.
        """
        logits = torch.einsum(einsum, queries, x) + self.bias
        if self.activation is not None:
            logits = self.activation(logits)
        if learned is not None:
            # Equal logits give equal weights, as W = 0 and b = 0 do.
            logits = logits * learned
        return masked_softmax(logits, mask)


class WordToRegions(nn.Module):
    """W2R: an LSTM over the words, each concatenated with the regions that it attends to.

    Parameters
    ----------
    word_width, region_width : int
        Widths E of the words and d of the regions.
    lstm_width : int
        Width H of the LSTM.
    mlp : sequence of int
        Widths of the perceptron's hidden layers.
    activation : callable or None
        Activation φ of equation 2.
    dropout : float
        Probability of dropping a hidden unit of the perceptron.
    project : bool
        Multiply the regions by the LSTM's input weights, once per image, instead of the weighted
        sums of regions. The result is the same, and cheaper if an image has fewer regions than a
        text has words.
    """

    def __init__(
        self,
        word_width: int,
        region_width: int,
        lstm_width: int,
        mlp: Sequence[int],
        activation: Activation,
        dropout: float,
        project: bool,
    ) -> None:
        super().__init__()
        self.attention = PairAttention(word_width, region_width, activation=activation)
        self.lstm = nn.LSTM(region_width + word_width, lstm_width, batch_first=True)
        self.mlp = MLPBranch(
            (lstm_width, *mlp, 1), activation=nn.Tanh, batch_norm=True, dropout=dropout
        )
        self.sizes = (region_width, word_width)
        self.project = project

    def describe(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projections of every region (..., R, ·) for the attention and the LSTM."""
        of_regions, _ = self.lstm.get_parameter("weight_ih_l0").split(self.sizes, dim=1)
        # t' W r = t' (W r): W is applied on the narrower side, which has fewer items.
        keys = regions @ self.attention.map.weight
        return keys, regions @ of_regions.T if self.project else regions

    def weights(self, image: Image, text: Text) -> Tensor:
        """Return α (g, n, m, T, R), equation 1."""
        alpha = self._weights(image, text.words.flatten(1, 2))
        return alpha.unflatten(2, text.words.shape[1:3])

    def _weights(self, image: Image, words: Tensor, learned: Tensor | None = None) -> Tensor:
        """Return α (g, n, w, R) of words (g, w, E); `learned` of shape (g, n, w)."""
        keys, mask = image.keys, image.regions_mask
        assert keys is not None
        return self.attention.weigh(
            "gwe,gnre->gnwr",
            words,
            keys,
            None if mask is None else mask[:, :, None],
            None if learned is None else learned[..., None],
        )

    def forward(self, image: Image, text: Text, learned: Tensor | None = None) -> Tensor:
        """Return Y (g, n, m), equation 6; `learned` of shape (g, n, m), see `PairAttention`."""
        parameter = self.lstm.get_parameter
        of_regions, of_words = parameter("weight_ih_l0").split(self.sizes, dim=1)
        # The words of all texts of a group in a row, without the padding between them.
        at, _ = _real_first(text.mask)
        words = _gathered(text.words.flatten(1, 2), at)
        if learned is not None:
            learned = learned.gather(
                2, (at // text.words.shape[2])[:, None].expand(-1, learned.shape[1], -1)
            )
        alpha = self._weights(image, words, learned)
        assert image.regions is not None
        # The input of the LSTM is [u; t], whose two parts are multiplied separately.
        gates = alpha @ image.regions
        if not self.project:
            gates = gates @ of_regions.T
        bias = parameter("bias_ih_l0") + parameter("bias_hh_l0")
        gates += (words @ of_words.T + bias)[:, None]
        last = self._last_states(gates, text.lengths)
        return _in_float32(self.mlp, last).view(*alpha.shape[:2], -1)

    def _last_states(self, gates: Tensor, lengths: Tensor) -> Tensor:
        """Run the LSTM; return its state (g n m, H) at the last true word of every pair.

        Parameters
        ----------
        gates : Tensor of shape (g, n, w, 4 H)
            What the inputs contribute to the gates, for the words of m texts in a row.
        lengths : int64 Tensor of shape (g, m)
        """
        (g, m), (n, w) = lengths.shape, gates.shape[1:3]
        images = torch.arange(g * n, device=lengths.device).view(g, n, 1)
        first = (images * w + (lengths.cumsum(dim=1) - lengths)[:, None]).flatten()
        lengths = lengths[:, None].expand(g, n, m).flatten()
        # Longest texts first: after t words, only the first few are still running.
        order = lengths.argsort(descending=True, stable=True)
        weight = self.lstm.get_parameter("weight_hh_l0")
        keep, gates = torch.is_grad_enabled(), gates.flatten(0, 2)
        found = [
            _LastStates.apply(gates, weight, first[some], lengths[some], keep)
            for some in order.split(len(order) if keep else _ROWS)
        ]
        return torch.cat(found).index_select(0, order.argsort())


class _LastStates(torch.autograd.Function):
    """The recurrence of an LSTM over rows of unequal length, longest first.

    torch's own would multiply by the input weights again for each pair, and autograd takes several
    times as long for so many small steps.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, first: Tensor, lengths: Tensor, keep: bool
    ) -> Tensor:
        """Return the last state of every row.

        Parameters
        ----------
        gates : Tensor of shape (w, 4 H)
            What the inputs contribute to the gates.
        weight : Tensor of shape (4 H, H)
        first, lengths : int64 Tensor of shape (k,)
            Where the gates of every row begin and how many there are, not increasing.
        keep : bool
            Whether to keep what the gradient needs.
        """
        recurrent = weight.to(gates.dtype).T
        steps = torch.arange(int(lengths[0]), device=lengths.device)
        # The states stay float32 in mixed precision.
        h = c = gates.new_zeros(len(first), weight.shape[1], dtype=torch.float32)
        last = torch.empty_like(h)
        ctx.steps = []
        for step, n in enumerate((lengths > steps[:, None]).sum(dim=1).tolist()):
            last[n : len(h)] = h[n:]
            at, h, c_before = first[:n] + step, h[:n], c[:n]
            acts = torch.addmm(gates.index_select(0, at), h.to(gates.dtype), recurrent).float()
            i, f, g, o = acts.chunk(4, dim=1)
            g.mul_(2)
            acts.sigmoid_()
            g.mul_(2).sub_(1)  # tanh(x) is 2 s(2x) - 1
            c = torch.addcmul(f * c_before, i, g)
            squashed = _tanh(c)
            if keep:
                ctx.steps.append((at, acts, squashed, h, c_before))
            h = o * squashed
        last[: len(h)] = h
        ctx.save_for_backward(weight)
        ctx.shape, ctx.dtype = gates.shape, gates.dtype
        return last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the gates and of the weight."""
        (weight,) = ctx.saved_tensors
        of_gates = gradient.new_zeros(ctx.shape, dtype=ctx.dtype)
        of_weight = torch.zeros_like(weight)
        through = weight.to(ctx.dtype)
        of_h = of_c = gradient[:0]
        for at, acts, squashed, h, c in reversed(ctx.steps):
            i, f, g, o = acts.chunk(4, dim=1)
            # Rows that end at this step have the gradient of their last state.
            ended = len(at) - len(of_h)
            of_h = torch.cat([of_h, gradient[len(of_h) : len(at)]])
            of_c = F.pad(of_c, (0, 0, 0, ended)) + of_h * o * (1 - squashed * squashed)
            found = torch.empty_like(acts)
            of_i, of_f, of_g, of_o = found.chunk(4, dim=1)
            torch.mul(of_c * g, i * (1 - i), out=of_i)
            torch.mul(of_c * c, f * (1 - f), out=of_f)
            torch.mul(of_c * i, 1 - g * g, out=of_g)
            torch.mul(of_h * squashed, o * (1 - o), out=of_o)
            found = found.to(ctx.dtype)
            of_gates.index_copy_(0, at, found)
            of_weight += found.T @ h.to(ctx.dtype)
            of_h = (found @ through).float()
            of_c = of_c * f
        return of_gates, of_weight, None, None, None


def _tanh(x: Tensor) -> Tensor:
    """Return tanh(x); the logistic function is several times faster than tanh on CPUs."""
    return (2 * x).sigmoid_().mul_(2).sub_(1)


def _real_first(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the real elements of every group are, padded with others to the same number.

    Parameters
    ----------
    mask : bool Tensor of shape (g, n, K)

    Returns
    -------
    at : int64 Tensor of shape (g, k)
        Positions among the n K elements of the group, in order.
    real : bool Tensor of shape (g, k)
    """
    flat = mask.flatten(1)
    counts = flat.sum(dim=1)
    most = int(counts.max())
    at = flat.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return at, torch.arange(most, device=mask.device) < counts[:, None]


def _gathered(values: Tensor, at: Tensor) -> Tensor:
    """Return rows `at` (g, k) of values (g, w, d)."""
    rows = at + torch.arange(len(at), device=at.device)[:, None] * values.shape[1]
    return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, at.shape)


class ObjectToWords(nn.Module):
    """O2W: every object is scored with the words that it attends to; scores are averaged.

    Parameters
    ----------
    word_width, object_width : int
        Width E of the words and width of an object's vector.
    lstm_width : int
        Width B of the bidirectional LSTM, whose two states are averaged.
    mlp : sequence of int
        Widths of the perceptron's hidden layers.
    activation : callable or None
        Activation φ of equation 10.
    dropout : float
        Probability of dropping a hidden unit of the perceptron.
    """

    def __init__(
        self,
        word_width: int,
        object_width: int,
        lstm_width: int,
        mlp: Sequence[int],
        activation: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(word_width, lstm_width, batch_first=True, bidirectional=True)
        self.attention = PairAttention(object_width, lstm_width, activation=activation)
        self.mlp = MLPBranch(
            (object_width + lstm_width, *mlp, 1),
            activation=nn.Tanh,
            batch_norm=True,
            dropout=dropout,
        )
        self.object_width = object_width

    def read(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Return S (m, T, B) of words (m, T, E), zero after the last word."""
        # Packed, because the backward pass would otherwise start in the padding.
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=words.shape[1]
        )
        return states.unflatten(-1, (2, -1)).mean(dim=-2)

    def describe(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projections of every object (..., K, ·) for attention and first layer."""
        of_objects = self.mlp.get_parameter("layers.0.weight")[:, : self.object_width]
        bias = self.mlp.get_parameter("layers.0.bias")
        return self.attention.map(objects), objects @ of_objects.T + bias

    def weights(self, image: Image, text: Text) -> Tensor:
        """Return β (g, n, m, K, T), equation 9."""
        assert image.objects is not None
        beta = self._weights(image.objects.flatten(1, 2), text)
        return beta.unflatten(1, image.objects.shape[1:3]).transpose(2, 3)

    def _weights(self, objects: Tensor, text: Text, learned: Tensor | None = None) -> Tensor:
        """Return β (g, k, m, T) of objects (g, k, B); `learned` of shape (g, k, m)."""
        assert text.states is not None
        return self.attention.weigh(
            "gkb,gmtb->gkmt",
            objects,
            text.states,
            text.mask[:, None],
            None if learned is None else learned[..., None],
        )

    def forward(self, image: Image, text: Text, learned: Tensor | None = None) -> Tensor:
        """Return Y' (g, n, m), equation 16; `learned` of shape (g, n, m), see `PairAttention`."""
        objects, first, states = image.objects, image.first, text.states
        assert objects is not None and first is not None and states is not None
        (g, n, k), m = objects.shape[:3], states.shape[1]
        mask = image.objects_mask
        if mask is None:
            mask = torch.ones(g, n, k, dtype=torch.bool, device=objects.device)
        # The objects of all images of a group in a row, without the padding between them.
        at, real = _real_first(mask)
        objects, first = (_gathered(part.flatten(1, 2), at) for part in (objects, first))
        owner = at // k
        if learned is not None:
            learned = learned.gather(1, owner[..., None].expand(-1, -1, m))
        beta = self._weights(objects, text, learned).transpose(1, 2)
        of_words = self.mlp.get_parameter("layers.0.weight")[:, self.object_width :]
        # [o; u] times the weights of the first layer, in two parts.
        hidden = (beta @ (states @ of_words.T) + first[:, None]).flatten(0, 2)
        # What is left of the padding must not enter the statistics of the batch.
        places = real[:, None].expand(g, m, -1).flatten().nonzero().squeeze(-1)
        padded = len(places) < len(hidden)
        scores = _in_float32(
            self.mlp.layers[1:], hidden.index_select(0, places) if padded else hidden
        ).squeeze(-1)
        if padded:
            scores = scores.new_zeros(len(hidden)).index_copy(0, places, scores)
        total = scores.new_zeros(g, m, n).scatter_add(
            2, owner[:, None].expand(g, m, -1), scores.view(g, m, owner.shape[1])
        )
        return total.transpose(1, 2) / mask.sum(dim=-1).clamp(min=1)[..., None]


def _in_float32(mlp: nn.Module, x: Tensor) -> Tensor:
    """Score in float32 at any precision, since bfloat16 distinguishes too few scores."""
    with torch.autocast(x.device.type, enabled=False):
        return mlp(x.float())


class BSSANNetwork(nn.Module):
    """The network of BSSAN with both branches, or one of them.

    Parameters
    ----------
    n_inputs : dict
        ``{"image": {"map": d, "objects": d_o}, "text": E}``.
    branches : sequence of {"w2r", "o2w"}
    lstm_width, w2r_mlp, bilstm_width, o2w_mlp, activation
        See `WordToRegions` and `ObjectToWords`.
    max_words : int
        Number of words per text.
    project : bool
        See `WordToRegions`.
    standardize : sequence of {"text", "map", "objects"}, default=()
        What is standardised first, feature by feature.
    dropout : float, default=0.0
        Probability of dropping a feature of a word, region or object, or a hidden unit of the
        perceptrons.
    """

    def __init__(
        self,
        n_inputs: dict[str, Any],
        *,
        branches: Sequence[str],
        lstm_width: int,
        w2r_mlp: Sequence[int],
        bilstm_width: int,
        o2w_mlp: Sequence[int],
        activation: Activation,
        max_words: int,
        project: bool,
        standardize: Sequence[str] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        words, image = n_inputs["text"], n_inputs["image"]
        self.branches: Any = nn.ModuleDict()  # whose values would be plain modules
        if "w2r" in branches:
            self.branches["w2r"] = WordToRegions(
                words, image["map"], lstm_width, w2r_mlp, activation, dropout, project
            )
        if "o2w" in branches:
            self.branches["o2w"] = ObjectToWords(
                words, image["objects"], bilstm_width, o2w_mlp, activation, dropout
            )
        self.max_words = max_words
        init_weights(self, "tanh")
        branch: Any
        for branch in self.branches.values():
            branch.attention.init()
            init_weights(branch.mlp.layers[-1], "linear")
        widths: dict[str, tuple[Any, ...]] = {"text": (words, "text")}
        widths |= {
            CHANNELS[name]: (image[CHANNELS[name]], "image", CHANNELS[name])
            for name in self.branches
        }
        self.scaling = nn.ModuleDict(
            {name: Standardize(*widths[name]) for name in widths if name in standardize}
        )
        self.dropout = nn.Dropout(dropout)

    def _scaled(self, values: Tensor, name: str) -> Tensor:
        return self.dropout(self.scaling[name](values) if name in self.scaling else values)

    def image(self, channels: dict[str, Items]) -> Image:
        """Compute once what depends only on the image."""
        found: dict[str, Tensor | None] = {}
        if "w2r" in self.branches:
            regions, found["regions_mask"] = channels["map"]
            regions = self._scaled(regions, "map")
            found["keys"], found["regions"] = self.branches["w2r"].describe(regions)
        if "o2w" in self.branches:
            objects, found["objects_mask"] = channels["objects"]
            objects = self._scaled(objects, "objects")
            found["objects"], found["first"] = self.branches["o2w"].describe(objects)
        return Image(**found)

    def text(self, items: Items) -> Text:
        """Compute once what depends only on the text."""
        words = items.values[:, : self.max_words]
        if items.mask is None:
            # Arrays are padded with zeros; the last word that is not zero ends the text.
            real = words.any(dim=-1)
            places = torch.arange(1, words.shape[1] + 1, device=words.device)
            lengths = (real * places).amax(dim=1)
        else:
            lengths = items.mask[:, : self.max_words].sum(dim=1)
        lengths = lengths.clamp(min=1)  # an empty text is one word of zeros
        words = self._scaled(words[:, : int(lengths.max())], "text")
        states = self.branches["o2w"].read(words, lengths) if "o2w" in self.branches else None
        return Text(words, states, lengths)

    def forward(self, image: Image, text: Text, learned: Tensor | None = None) -> dict[str, Tensor]:
        """Return the scores (g, n, m) of every branch."""
        return {name: branch(image, text, learned) for name, branch in self.branches.items()}

    def squared_norm(self) -> Tensor:
        """Return the sum of the squares of all weight matrices, without biases and scales."""
        return torch.stack([w.square().sum() for w in self.parameters() if w.ndim > 1]).sum()
