"""The method: what is computed per item, what per pair, and the loss of a batch."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.neural import Batch, NeuralPairEstimator, masked_softmax, triplet_loss
from crossfit_template import cards

__all__ = ["Template"]


class Template(NeuralPairEstimator):
    r"""A text attends to the regions of an image, and the attended regions score the pair.

    With unit vectors r_1, ..., r_R of an image's regions and t of a text, the score is

    .. math:: \sum_i a_i \, t' r_i, \qquad a = \mathrm{softmax}_i(\tau \, t' r_i).

    Parameters
    ----------
    width : int, default=64
        Width of the vectors.
    temperature : float, default=5.0
        Temperature τ; the larger, the more the best region dominates.
    margin : float, default=0.2
        Margin by which a pair must outscore the others.
    **kwargs
        See `crossfit.neural.NeuralPairEstimator`.
    """

    card = cards.TEMPLATE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralPairEstimator._parameter_constraints,
        "width": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "margin": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self, *, width: int = 64, temperature: float = 5.0, margin: float = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.temperature = temperature
        self.margin = margin

    # `n_inputs` are the widths by role, which suffice to build the network again on loading.
    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        return nn.ModuleDict({role: nn.Linear(n, self.width) for role, n in n_inputs.items()})

    # Called once per item. Rows are padded to the longest of their batch, and the mask is returned
    # with them: values in the padding must not be used.
    def _prepare_batch(self, module: Any, items: Any, view: str) -> Any:
        encoded = F.normalize(module[view](items.values), dim=-1)
        if view == "text":
            return encoded
        mask = items.mask if items.mask is not None else encoded.new_ones(encoded.shape[:2]).bool()
        return {"regions": encoded, "mask": mask}

    # Called once per block of pairs; returns scores of shape (len P, len Q).
    def _score_pairs(self, module: Any, P: Any, Q: Any) -> Tensor:
        regions, mask = P["regions"], P["mask"]
        cosines = (regions.flatten(0, 1) @ Q.T).unflatten(0, regions.shape[:2]).transpose(1, 2)
        weights = masked_softmax(self.temperature * cosines, mask[:, None])
        return (weights * cosines).sum(dim=-1)

    # Bytes per pair, at the peak: cosines, logits, masked logits, their exponentials and weights,
    # and the score. The mask's complement is per image, but a block may have only one text.
    def _pair_bytes(self, P: Any, Q: Any) -> int:
        return 4 * (5 * P["regions"].shape[1] + 1) + P["regions"].shape[1]

    # In training, `outputs` are the scores of all items of the batch against each other.
    def _loss(self, outputs: Any, batch: Batch) -> Tensor:
        settings: dict[str, Any] = {"margin": self.margin, "mining": "hardest"}
        images = triplet_loss(outputs, batch.positives, batch.negatives, **settings)
        texts = triplet_loss(outputs.T, batch.positives.T, batch.negatives.T, **settings)
        return images + texts
