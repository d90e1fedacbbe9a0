"""Base classes and building blocks of neural methods: batches, modules, losses, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = [
    "NeuralEstimator",
    "NeuralPairEstimator",
    "Prepared",
    "Batch",
    "Items",
    "AttentionPool",
    "BilinearAttention",
    "CharCNN",
    "MLPBranch",
    "Standardize",
    "grad_reverse",
    "grad_reverse_schedule",
    "init_weights",
    "masked_softmax",
    "cca_loss",
    "label_loss",
    "triplet_loss",
    "Checkpoint",
    "listening",
    "warm_up",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "NeuralEstimator": "estimator",
        "NeuralPairEstimator": "pairs",
        "Prepared": "pairs",
        "Batch": "batching",
        "Items": "batching",
        "AttentionPool": "modules",
        "BilinearAttention": "modules",
        "CharCNN": "modules",
        "MLPBranch": "modules",
        "Standardize": "modules",
        "grad_reverse": "modules",
        "grad_reverse_schedule": "modules",
        "init_weights": "modules",
        "masked_softmax": "modules",
        "cca_loss": "losses",
        "label_loss": "losses",
        "triplet_loss": "losses",
        "Checkpoint": "checkpoint",
        "listening": "training",
        "warm_up": "training",
    },
    ("batching", "checkpoint", "estimator", "losses", "modules", "pairs", "training"),
)

if TYPE_CHECKING:
    from crossfit.neural.batching import Batch, Items
    from crossfit.neural.checkpoint import Checkpoint
    from crossfit.neural.estimator import NeuralEstimator
    from crossfit.neural.losses import cca_loss, label_loss, triplet_loss
    from crossfit.neural.modules import (
        AttentionPool,
        BilinearAttention,
        CharCNN,
        MLPBranch,
        Standardize,
        grad_reverse,
        grad_reverse_schedule,
        init_weights,
        masked_softmax,
    )
    from crossfit.neural.pairs import NeuralPairEstimator, Prepared
    from crossfit.neural.training import listening, warm_up
