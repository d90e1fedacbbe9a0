"""The networks of BSSAN (figures 3 and 4 of the paper), which score many pairs at once.

Everything that is linear in one item alone is computed once per item instead of once per pair.
Symbols in shapes: n images, m texts, T words, R regions, K objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crossfit.neural import BilinearAttention, Items, MLPBranch, masked_softmax

__all__ = ["BSSANNetwork", "Image", "ObjectToWords", "Text", "WordToRegions"]

Activation = Callable[[Tensor], Tensor] | None


class Image(NamedTuple):
    """Prepared images; fields of a branch that is not used are None.

    Parameters
    ----------
    keys : Tensor of shape (n, R, E)
        Regions, mapped by W of the attention to the width of the words.
    regions : Tensor of shape (n, R, 4 H) or (n, R, d)
        Regions times the input weights of the LSTM, or unchanged.
    regions_mask : bool Tensor of shape (n, R), or None if all regions are real
    objects : Tensor of shape (n, K, B)
        Objects, mapped by W of the attention to the width of the words.
    first : Tensor of shape (n, K, F)
        Contribution of the objects to the first layer of the perceptron.
    objects_mask : bool Tensor of shape (n, K), or None
    """

    keys: Tensor | None = None
    regions: Tensor | None = None
    regions_mask: Tensor | None = None
    objects: Tensor | None = None
    first: Tensor | None = None
    objects_mask: Tensor | None = None


class Text(NamedTuple):
    """Prepared texts: of shape (m, ...) when prepared, (k, m, ...) when compared with images.

    k = 1 if all images are compared with the same m texts, k = n if each has its own.

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

    def shared(self) -> Text:
        """Return the texts for images that are all compared with the same texts."""
        longest = int(self.lengths.max())
        states = None if self.states is None else self.states[None, :, :longest]
        return Text(self.words[None, :, :longest], states, self.lengths[None])

    def take(self, rows: Tensor) -> Text:
        """Return the texts for images with their own texts, `rows` of shape (n, m)."""
        return Text(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]


class PairAttention(BilinearAttention):
    """Bilinear attention whose queries and vectors belong to different items."""

    def weigh(
        self, einsum: str, queries: Tensor, x: Tensor, mask: Tensor | None, learned: Tensor | None
    ) -> Tensor:
        """Return weights (n, m, queries, vectors), equations 1 and 9.

        Parameters
        ----------
        einsum : str
            How logits are computed from the queries, already mapped by W, and the vectors.
        queries, x, mask : Tensor
            The mask is broadcast to the weights.
        learned : float Tensor of shape (m,), optional
            0 for texts over which the weights are uniform, as for the negatives of equation 8,
            1 for others; all 1 by default.
        """
        logits = torch.einsum(einsum, queries, x) + self.bias
        if self.activation is not None:
            logits = self.activation(logits)
        if learned is not None:
            # Equal logits give equal weights, as W = 0 and b = 0 do.
            logits = logits * learned[:, None, None]
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
        project: bool,
    ) -> None:
        super().__init__()
        self.attention = PairAttention(word_width, region_width, activation=activation)
        self.lstm = nn.LSTM(region_width + word_width, lstm_width, batch_first=True)
        self.mlp = MLPBranch((lstm_width, *mlp, 1), activation=nn.Tanh, batch_norm=True)
        self.sizes = (region_width, word_width)
        self.project = project

    def describe(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projections of every region (n, R, ·) for the attention and the LSTM."""
        of_regions, _ = self.lstm.get_parameter("weight_ih_l0").split(self.sizes, dim=1)
        # t' W r = t' (W r): W is applied on the narrower side, which has fewer items.
        keys = regions @ self.attention.map.weight
        return keys, regions @ of_regions.T if self.project else regions

    def weights(self, image: Image, text: Text, learned: Tensor | None = None) -> Tensor:
        """Return α (n, m, T, R), equation 1."""
        keys, mask = image.keys, image.regions_mask
        assert keys is not None
        return self.attention.weigh(
            "nmte,nre->nmtr",
            text.words,
            keys,
            None if mask is None else mask[:, None, None],
            learned,
        )

    def forward(self, image: Image, text: Text, learned: Tensor | None = None) -> Tensor:
        """Return Y (n, m), equation 6."""
        parameter = self.lstm.get_parameter
        of_regions, of_words = parameter("weight_ih_l0").split(self.sizes, dim=1)
        alpha = self.weights(image, text, learned)
        # The input of the LSTM is [u; t], whose two parts are multiplied separately.
        gates = torch.einsum("nmtr,nrg->nmtg", alpha, image.regions)
        if not self.project:
            gates = gates @ of_regions.T
        bias = parameter("bias_ih_l0") + parameter("bias_hh_l0")
        gates += text.words @ of_words.T + bias
        last = self._last_states(gates, text.lengths)
        return _in_float32(self.mlp, last.flatten(0, 1)).view(last.shape[:2])

    def _last_states(self, gates: Tensor, lengths: Tensor) -> Tensor:
        """Run the LSTM; return its state (n, m, H) at the last true word of every pair.

        torch's own loop would multiply by the input weights again for each pair.
        """
        n, m = gates.shape[:2]
        if len(lengths) > 1:  # every image has its own texts
            gates, lengths = gates.view(1, n * m, *gates.shape[2:]), lengths.view(1, -1)
        # Longest texts first: after t words, only the first few are still running.
        order = lengths[0].argsort(descending=True, stable=True)
        places = torch.arange(gates.shape[2], device=lengths.device)
        going = (lengths > places[:, None]).sum(dim=1).tolist()
        of_states = self.lstm.get_parameter("weight_hh_l0")
        h = c = gates.new_zeros(*gates.shape[:2], self.lstm.hidden_size, dtype=torch.float32)
        ended = []
        for step, active in zip(gates.index_select(1, order).unbind(2), going):
            ended.append(h[:, active:])
            if not active:
                break
            recurrent = h[:, :active] @ of_states.T
            # The cell state stays float32 in mixed precision.
            i, f, g, o = (step[:, :active] + recurrent).float().chunk(4, dim=-1)
            c = f.sigmoid() * c[:, :active] + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        else:
            ended.append(h)
        states = torch.cat(ended[::-1], dim=1)
        return states[:, order.argsort()].view(n, m, -1)


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
    """

    def __init__(
        self,
        word_width: int,
        object_width: int,
        lstm_width: int,
        mlp: Sequence[int],
        activation: Activation,
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(word_width, lstm_width, batch_first=True, bidirectional=True)
        self.attention = PairAttention(object_width, lstm_width, activation=activation)
        self.mlp = MLPBranch(
            (object_width + lstm_width, *mlp, 1), activation=nn.Tanh, batch_norm=True
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
        """Return the projections of every object (n, K, ·) for attention and first layer."""
        of_objects = self.mlp.get_parameter("layers.0.weight")[:, : self.object_width]
        bias = self.mlp.get_parameter("layers.0.bias")
        return self.attention.map(objects), objects @ of_objects.T + bias

    def weights(self, image: Image, text: Text, learned: Tensor | None = None) -> Tensor:
        """Return β (n, m, K, T), equation 9."""
        objects, states = image.objects, text.states
        assert objects is not None and states is not None
        return self.attention.weigh(
            "nkb,nmtb->nmkt", objects, states, text.mask[:, :, None], learned
        )

    def forward(self, image: Image, text: Text, learned: Tensor | None = None) -> Tensor:
        """Return Y' (n, m), equation 16."""
        beta = self.weights(image, text, learned)
        first, states, mask = image.first, text.states, image.objects_mask
        assert first is not None and states is not None
        of_words = self.mlp.get_parameter("layers.0.weight")[:, self.object_width :]
        # [o; u] times the weights of the first layer, in two parts.
        hidden = first[:, None] + torch.einsum("nmkt,nmtf->nmkf", beta, states @ of_words.T)
        rest = self.mlp.layers[1:]
        if mask is None:
            return _in_float32(rest, hidden.flatten(0, 2)).view(beta.shape[:3]).mean(dim=-1)
        # Padded objects must not enter the statistics of the batch.
        real = mask[:, None].expand(beta.shape[:3])
        scores = _in_float32(rest, hidden[real]).squeeze(-1)
        filled = scores.new_zeros(real.shape).masked_scatter(real, scores)
        return filled.sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)[:, None]


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
    ) -> None:
        super().__init__()
        words, image = n_inputs["text"], n_inputs["image"]
        self.branches: Any = nn.ModuleDict()  # whose values would be plain modules
        if "w2r" in branches:
            self.branches["w2r"] = WordToRegions(
                words, image["map"], lstm_width, w2r_mlp, activation, project
            )
        if "o2w" in branches:
            self.branches["o2w"] = ObjectToWords(
                words, image["objects"], bilstm_width, o2w_mlp, activation
            )
        self.max_words = max_words

    def image(self, channels: dict[str, Items]) -> Image:
        """Compute once what depends only on the image."""
        found: dict[str, Tensor | None] = {}
        if "w2r" in self.branches:
            regions, found["regions_mask"] = channels["map"]
            found["keys"], found["regions"] = self.branches["w2r"].describe(regions)
        if "o2w" in self.branches:
            objects, found["objects_mask"] = channels["objects"]
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
        words = words[:, : int(lengths.max())]
        states = self.branches["o2w"].read(words, lengths) if "o2w" in self.branches else None
        return Text(words, states, lengths)

    def forward(self, image: Image, text: Text, learned: Tensor | None = None) -> dict[str, Tensor]:
        """Return the scores (n, m) of every branch."""
        return {name: branch(image, text, learned) for name, branch in self.branches.items()}

    def squared_norm(self) -> Tensor:
        """Return the sum of the squares of all weight matrices, without biases and scales."""
        return torch.stack([w.square().sum() for w in self.parameters() if w.ndim > 1]).sum()
