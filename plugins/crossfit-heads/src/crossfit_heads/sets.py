"""Branches over sets: regions of pictures, and words of texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossfit.neural import Items, MLPBranch, Recurrent, Standardize, WordEmbedding, init_weights

__all__ = ["RegionBranch", "WordBranch"]


class RegionBranch(nn.Module):
    """Regions in the common space: a linear map, perhaps with a perceptron next to it.

    Parameters
    ----------
    n_inputs : int
        Width of the regions.
    width : int
        Width of the common space.
    hidden : int, optional
        Number of units of the hidden layer of a perceptron, whose output is added to that of the
        linear map. It has batch normalisation, over the regions of the batch, and ReLU. By
        default there is none.
    standardize : bool, default=True
        Whether features have mean 0 and deviation 1 over the training regions.
    dropout : float, default=0.0
        Probability of dropping a feature of a region.
    """

    def __init__(
        self,
        n_inputs: int,
        width: int,
        *,
        hidden: int | None = None,
        standardize: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.scaling = Standardize(n_inputs, "image") if standardize else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = init_weights(nn.Linear(n_inputs, width), "linear")
        self.mlp: nn.Module | None = None
        if hidden is not None:
            self.mlp = MLPBranch((n_inputs, hidden, width), batch_norm=True)
            init_weights(self.mlp)

    def forward(self, items: Items) -> tuple[Tensor, Tensor]:
        """Map regions to the common space.

        Parameters
        ----------
        items : Items
            Regions (b, R, n_inputs), with a mask if pictures differ in their number.

        Returns
        -------
        values : Tensor of shape (b, R, width)
            Zero where there is no region.
        mask : bool Tensor of shape (b, R)
            True at regions. A picture without regions has one, of zeros.
        """
        values, mask = items
        values = self.scaling(values)
        if mask is None:
            mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
            return self._mapped(values.flatten(0, 1)).unflatten(0, mask.shape), mask
        values, mask = torch.where(mask[..., None], values, 0.0), _not_empty(mask)
        # Padding must enter neither the statistics of the batch nor the products.
        return _spread(self._mapped(values[mask]), mask), mask

    def _mapped(self, regions: Tensor) -> Tensor:
        """Map the regions (k, n_inputs) of all pictures."""
        regions = self.dropout(regions)
        mapped = self.linear(regions)
        return mapped if self.mlp is None else mapped + self.mlp(regions)


class WordBranch(nn.Module):
    """Words in the common space: the states of a GRU, or a linear map.

    Parameters
    ----------
    words : WordEmbedding
        The vectors of the words.
    width : int
        Width of the common space.
    gru : bool, default=True
        Whether words are read by a GRU in both directions, whose states are averaged.
    dropout : float, default=0.0
        Probability of dropping a feature of a word.
    """

    def __init__(
        self, words: WordEmbedding, width: int, *, gru: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.words = words
        self.dropout = nn.Dropout(dropout)
        self.gru = Recurrent(words.width, width, directions="mean") if gru else None
        self.linear = None if gru else nn.Linear(words.width, width)
        init_weights(self.gru or self.linear, "linear")  # type: ignore[arg-type]

    def forward(self, items: Items) -> tuple[Tensor, Tensor]:
        """Map words to the common space.

        Parameters
        ----------
        items : Items
            As for `crossfit.neural.WordEmbedding`.

        Returns
        -------
        values : Tensor of shape (b, T, width)
            Zero where there is no word.
        mask : bool Tensor of shape (b, T)
            True at words. A text without words has one, of zeros.
        """
        return self.read(*self.words(items))

    def read(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map the vectors of words to the common space, as `forward` does.

        Parameters
        ----------
        words : Tensor of shape (b, T, d)
            Vectors of words, zero where there is none.
        mask : bool Tensor of shape (b, T)
            True at words, which come first in their row.
        """
        mask = _not_empty(mask)
        if self.gru is not None:
            return self.gru(self.dropout(words), mask)[0], mask
        assert self.linear is not None
        return _spread(self.linear(self.dropout(words[mask])), mask), mask


def _not_empty(mask: Tensor) -> Tensor:
    """Return a mask in which the first element of every row is real."""
    return mask | (torch.arange(mask.shape[1], device=mask.device) == 0)


def _spread(rows: Tensor, mask: Tensor) -> Tensor:
    """Return elements (k, w) where the mask (b, L) is True, and zeros elsewhere."""
    found = rows.new_zeros(*mask.shape, rows.shape[1])
    found[mask] = rows
    return found
