"""Faulty networks that must fail a check of the kit, and the correct one they derive from."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from crossfit.neural import Batch, NeuralPairEstimator, triplet_loss
from crossfit.testing import cards

__all__ = ["CollapsesTexts", "HoardsMemory", "IgnoresTheMask", "LiesAboutMemory", "RegionDots"]


class RegionDots(NeuralPairEstimator):
    """The mean product of a text with the regions of an image; a correct method."""

    card = cards.REGION_DOTS

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        return nn.ModuleDict({role: nn.Linear(n, 16) for role, n in n_inputs.items()})

    def _prepare_batch(self, module: Any, items: Any, view: str) -> Any:
        encoded = module[view](items.values)
        if view == "text":
            return encoded
        encoded = encoded if encoded.ndim == 3 else encoded[:, None]
        mask = items.mask if items.mask is not None else encoded.new_ones(encoded.shape[:2]).bool()
        return encoded, mask

    def _score_pairs(self, module: Any, P: Any, Q: Any) -> Tensor:
        regions, mask = P
        dots = (regions.flatten(0, 1) @ Q.T).unflatten(0, regions.shape[:2])
        dots.mul_(mask[:, :, None])
        return dots.sum(dim=1) / mask.sum(dim=1, keepdim=True)

    def _pair_bytes(self, P: Any, Q: Any) -> int:
        # The products, two sums of them, and the counts per row.
        return 4 * P[0].shape[1] + 8 + 8

    def _loss(self, outputs: Any, batch: Batch) -> Tensor:
        return triplet_loss(outputs, batch.positives, batch.negatives)


class LiesAboutMemory(RegionDots):
    """Declares the memory of the score only, without the products of the regions."""

    card = cards.LIES_ABOUT_MEMORY

    def _pair_bytes(self, P: Any, Q: Any) -> int:
        return 4


class HoardsMemory(RegionDots):
    """Declares a thousand times the memory that it uses, so that blocks are tiny."""

    card = cards.HOARDS_MEMORY

    def _pair_bytes(self, P: Any, Q: Any) -> int:
        return 1000 * super()._pair_bytes(P, Q)


class IgnoresTheMask(RegionDots):
    """Scores the padding as if it were regions."""

    card = cards.IGNORES_THE_MASK

    def _prepare_batch(self, module: Any, items: Any, view: str) -> Any:
        found = super()._prepare_batch(module, items, view)
        if view == "text":
            return found
        encoded, mask = found
        return encoded, mask.new_ones(mask.shape)


class CollapsesTexts(RegionDots):
    """Adds the same large vector to all texts, which the loss can hardly tell apart then."""

    card = cards.COLLAPSES_TEXTS

    def _prepare_batch(self, module: Any, items: Any, view: str) -> Any:
        found = super()._prepare_batch(module, items, view)
        return found + 1e4 if view == "text" else found
