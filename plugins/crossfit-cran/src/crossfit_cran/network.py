"""The network of CRAN: character stacks, regions and their relations, and dot products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.extraction import Characters
from crossfit.neural import AttentionPool, CharCNN, Items, Standardize, init_weights

__all__ = ["LEVELS", "CRANNetwork", "fragments", "nearest_mean", "receptive_field", "relations"]

LEVELS = ("global", "local", "relation")
ALPHABET = len(Characters.alphabet)

_KERNEL, _POOL = 4, 3  # of CharCNN


def receptive_field(n_layers: int) -> tuple[int, int]:
    """Return the receptive field of a step of the convolutions, in characters, and its stride.

    Parameters
    ----------
    n_layers : int
        Number of convolutions; all but the last are followed by max pooling over three steps.
    """
    seen, stride = 1, 1
    for layer in range(n_layers):
        seen += (_KERNEL - 1) * stride
        if layer < n_layers - 1:
            seen, stride = seen + (_POOL - 1) * stride, stride * _POOL
    return seen, stride


def fragments(length: int, n_layers: int) -> list[tuple[int, int]]:
    """Return the span of characters, start and stop, of every step of the convolutions.

    Parameters
    ----------
    length : int
        Number of characters of a text.
    n_layers : int
        Number of convolutions; all but the last are followed by max pooling over three steps.

    Returns
    -------
    list of (int, int)
        Empty if the text is too short for the convolutions.
    """
    seen, stride = receptive_field(n_layers)
    steps = length
    for layer in range(n_layers):
        steps -= _KERNEL - 1
        if layer < n_layers - 1:
            steps //= _POOL
    return [(k * stride, k * stride + seen) for k in range(max(steps, 0))]


def relations(n_regions: int) -> tuple[Tensor, Tensor]:
    """Return the indices j and k of all ordered pairs of different regions."""
    j, k = (~torch.eye(n_regions, dtype=torch.bool)).nonzero(as_tuple=True)
    return j, k


def nearest_mean(dots: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    """Return the mean of the k largest dot products, equations 9 to 11.

    Parameters
    ----------
    dots : Tensor of shape (n, R, m)
        Dot products of R parts of n images with m texts.
    k : int
        Number of parts; all of them if there are fewer.
    mask : bool Tensor of shape (n, R), optional
        True at real parts. The mean for an image without real parts is 0.

    Returns
    -------
    Tensor of shape (n, m)
    """
    if mask is not None:
        dots = dots.masked_fill(~mask[:, :, None], -torch.inf)
    # Every part in turn is inserted into the sorted best values: many times faster than topk, which
    # sorts only five or twenty numbers at a time.
    best: list[Tensor] = []
    for part in dots.unbind(1):
        for i, held in enumerate(best):
            best[i], part = torch.maximum(held, part), torch.minimum(held, part)
        if len(best) < k:
            best.append(part)
    if not best:
        return dots.new_zeros(len(dots), dots.shape[2])
    if mask is None:
        return sum(best[1:], best[0]) / len(best)
    finite = [torch.where(part > -torch.inf, part, 0.0) for part in best]
    return sum(finite[1:], finite[0]) / mask.sum(dim=1, keepdim=True).clamp(1, k)


class Stack(nn.Module):
    """Map characters to states by convolutions and an LSTM, or word vectors by the LSTM alone.

    Parameters
    ----------
    channels : sequence of int, or int
        Output channels of the convolutions; or the width of word vectors, which take the place of
        their output.
    width : int
        Width of the LSTM.
    n_layers : int
        Number of layers of the LSTM.
    """

    def __init__(self, channels: Sequence[int] | int, width: int, n_layers: int) -> None:
        super().__init__()
        read = channels if isinstance(channels, int) else channels[-1]
        self.cnn = nn.Identity() if isinstance(channels, int) else CharCNN(ALPHABET, channels)
        self.lstm = nn.LSTM(read, width, n_layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map character ids (b, length), or word vectors (b, m, d), to states (b, m, width)."""
        return self.lstm(self.cnn(x))[0]


class CRANNetwork(nn.Module):
    """Representations of images and texts at every level, and their dot products.

    Parameters
    ----------
    n_inputs : dict
        ``{"image": {"global": width, "regions": width}, "text": length}``, where the text is
        ``{"words": width}`` for word vectors.
    levels : sequence of {"global", "local", "relation"}
        Levels of the similarity.
    k : int
        Number of nearest regions and relations.
    n_regions : int
        Number of regions per image.
    channels : sequence of int
        Output channels of the convolutions.
    lstm_width, lstm_layers : int
        Sizes of the LSTM.
    attention_width : int
        Number of rows of W.
    width : int
        Width of the representations.
    dropout : float
        Dropout probability before the last layer of both modalities. All regions of an image lose
        the same features.
    normalize, attn_mean, mask_padding, standardize : bool
        See `crossfit_cran.estimator.CRAN`.
    init : {"scaled", "torch"}
        See `crossfit_cran.estimator.CRAN`.
    """

    def __init__(
        self,
        n_inputs: dict[str, Any],
        *,
        levels: Sequence[str],
        k: int,
        n_regions: int,
        channels: Sequence[int],
        lstm_width: int,
        lstm_layers: int,
        attention_width: int,
        width: int,
        dropout: float,
        normalize: bool,
        attn_mean: bool,
        mask_padding: bool,
        standardize: bool = False,
        init: str = "torch",
    ) -> None:
        super().__init__()
        self.levels, self.k, self.n_regions = tuple(levels), k, n_regions
        self.dropout, self.normalize = nn.Dropout(dropout), normalize
        self.attn_mean, self.mask_padding = attn_mean, mask_padding
        image, text = n_inputs["image"], n_inputs["text"]
        self.words = not isinstance(text, int)
        read = text["words"] if self.words else channels
        self.starts = [] if self.words else [at for at, _ in fragments(text, len(channels))]
        sizes = {level: image["global" if level == "global" else "regions"] for level in levels}
        sizes = {level: n * (1 + (level == "relation")) for level, n in sizes.items()}
        self.stacks = nn.ModuleDict({u: Stack(read, lstm_width, lstm_layers) for u in levels})
        self.attention = nn.ModuleDict(
            {
                level: AttentionPool(lstm_width, "additive", hidden=attention_width)
                for level in levels
                if level != "global"
            }
        )
        self.image = nn.ModuleDict({level: nn.Linear(n, width) for level, n in sizes.items()})
        self.text = nn.ModuleDict({level: nn.Linear(lstm_width, width) for level in levels})
        if init == "scaled":
            init_weights(self.stacks)
            init_weights(self.attention, "tanh")
            init_weights(nn.ModuleList([self.image, self.text]), "linear")
        # Without it there are no such buffers, as in bundles of version 0.1.0.
        self.standard = nn.ModuleDict()
        if standardize:
            if self.words:
                self.standard["words"] = Standardize(text["words"], "text", "words")
            for channel in ("global", "regions"):
                if channel in image:
                    self.standard[channel] = Standardize(image[channel], "image", channel)

    # ---- one item at a time ------------------------------------------------------------------

    def prepare(self, items: Any, view: str) -> dict[str, Tensor]:
        """Return the representations by level, with masks for the parts of images."""
        if view == "image":
            return self.images(items)
        return self.texts(*(items["words"] if self.words else (items.values,)))

    def images(self, channels: dict[str, Items]) -> dict[str, Tensor]:
        """Map the channels to ``global`` (b, d), ``local`` (b, R, d), ``relation`` (b, R', d)."""
        found = {}
        if "global" in self.levels:
            vectors = self._scaled(channels["global"].values, "global")
            found["global"] = self._last(self.image["global"], vectors)
        if "regions" not in channels:
            return found
        regions, mask = channels["regions"]
        regions = regions[:, : self.n_regions]
        if mask is not None:
            # A fixed number of places, so that relations have the same index in every batch.
            missing = self.n_regions - regions.shape[1]
            regions = F.pad(regions, (0, 0, 0, missing))
            mask = F.pad(mask[:, : self.n_regions], (0, missing))
        regions = self._scaled(regions, "regions")
        if self.training and self.dropout.p:
            # Random numbers for every region would take longer than the layers.
            regions = regions * self.dropout(torch.ones_like(regions[:, :1]))
        if "local" in self.levels:
            found["local"] = self._unit(self.image["local"](regions))
            if mask is not None:
                found["local_mask"] = mask
        if "relation" in self.levels:
            j, k = (index.to(regions.device) for index in relations(regions.shape[1]))
            layer = self.image["relation"].get_parameter
            # For a concatenation, W (l_j; l_k) = W_1 l_j + W_2 l_k: four times fewer products.
            first, second = layer("weight").chunk(2, dim=1)
            one, other = F.linear(regions, first, layer("bias")), F.linear(regions, second)
            found["relation"] = self._unit(one[:, j] + other[:, k])
            if mask is not None:
                found["relation_mask"] = mask[:, j] & mask[:, k]
        return found

    def texts(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Map characters (b, length), or words (b, m, width) with a mask, to vectors (b, d)."""
        return {
            level: self._last(self.text[level], pooled)
            for level, (pooled, _) in self.pool(x, mask).items()
        }

    def pool(self, x: Tensor, mask: Tensor | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """Return, by level, pooled states (b, lstm_width) and the weights of fragments (b, m)."""
        if self.words:
            x = self._scaled(x, "words")
        elif self.mask_padding:
            mask = self._written(x)
        found = {}
        for level in self.levels:
            states = self.stacks[level](x)
            real = states.new_ones(states.shape[:2]) if mask is None else mask.to(states)
            count = real.sum(dim=1, keepdim=True).clamp(min=1)
            if level == "global":
                weights = real / count
                pooled = torch.einsum("bm,bmh->bh", weights, states)
            else:
                pooled, weights = self.attention[level](states, mask)
                if self.attn_mean:
                    pooled = pooled / (count if self.words else states.shape[1])
            found[level] = pooled, weights
        return found

    def _written(self, ids: Tensor) -> Tensor:
        """Return a mask of the first fragment and those that begin before the end of the text."""
        place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        lengths = ((ids != 0) * place).amax(dim=1).clamp(min=1)
        return torch.tensor(self.starts, device=ids.device) < lengths[:, None]

    def _scaled(self, x: Tensor, channel: str) -> Tensor:
        return self.standard[channel](x) if channel in self.standard else x

    def _last(self, layer: nn.Module, x: Tensor) -> Tensor:
        return self._unit(layer(self.dropout(x)))

    def _unit(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=-1) if self.normalize else z

    # ---- pairs ---------------------------------------------------------------------------------

    def scores(self, P: dict[str, Tensor], Q: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the similarity (n, m) of n images and m texts at every level, equation 11."""
        found = {}
        # In float32 even under mixed precision: bfloat16 would turn close scores into ties.
        with torch.autocast(P[self.levels[0]].device.type, enabled=False):
            for level in self.levels:
                parts, text = P[level].float(), Q[level].float()
                if level == "global":
                    found[level] = parts @ text.T
                    continue
                dots = (parts.flatten(0, 1) @ text.T).unflatten(0, parts.shape[:2])
                found[level] = nearest_mean(dots, self.k, P.get(f"{level}_mask"))
        return found
