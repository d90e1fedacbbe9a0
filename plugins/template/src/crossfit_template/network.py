"""The method as a network: the minimum that a neural plugin has to implement."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from crossfit.neural import Batch, Items, MLPBranch, NeuralEstimator, triplet_loss
from crossfit_template import cards

__all__ = ["TemplateNet"]


class TemplateNet(NeuralEstimator):
    """Two branches of fully connected layers, trained to rank each pair first.

    The loss is a hinge on the hardest negatives of the batch, in both directions; another caption
    of the same image is never a negative.

    Parameters
    ----------
    n_components : int, default=64
        Dimensions of the common space.
    hidden : mapping of str to int, optional
        Width of the hidden layer by role; 256 by default.
    margin : float, default=0.2
        Margin by which a pair must outscore the others, in units of the cosine.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.
    """

    card = cards.TEMPLATE_NET

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden": [dict, None],
        "margin": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_components: int = 64,
        hidden: Mapping[str, int] | None = None,
        margin: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.n_components = n_components
        self.hidden = hidden
        self.margin = margin

    # `n_inputs` are the widths by role, which suffice to build the network again on loading.
    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        hidden = dict.fromkeys(n_inputs, 256) | dict(self.hidden or {})
        return _Branches(n_inputs, hidden, self.n_components, **module)

    # A function of the whole batch. Named terms are added up and recorded in the history.
    def _loss(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        S = outputs["image"] @ outputs["text"].T
        return {
            "image2text": triplet_loss(
                S, batch.positives, batch.negatives, margin=self.margin, mining="hardest"
            ),
            "text2image": triplet_loss(
                S.T, batch.positives.T, batch.negatives.T, margin=self.margin, mining="hardest"
            ),
        }


class _Branches(nn.Module):
    """One branch per role.

    Parameters
    ----------
    n_inputs, hidden : mapping of str to int
        Widths by role.
    n_components : int
        Width of the outputs, which have unit length.
    """

    def __init__(
        self, n_inputs: Mapping[str, int], hidden: Mapping[str, int], n_components: int
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                role: MLPBranch([n, hidden[role], n_components], normalize=True)
                for role, n in n_inputs.items()
            }
        )

    def encode(self, items: Items, view: str) -> Tensor:
        """Map a batch of items of one view into the common space."""
        branch: nn.Module = self.branches[view]
        encoded: Tensor = branch(items.values)
        return encoded
