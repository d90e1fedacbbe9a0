"""Base classes and building blocks of neural methods: batches, modules, losses, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "AlexNet": "trunks",
    "AttentionPool": "modules",
    "Batch": "batching",
    "BilinearAttention": "modules",
    "CanonicalEstimator": "canonical",
    "CharCNN": "modules",
    "Checkpoint": "checkpoint",
    "HingeEstimator": "ranking",
    "Items": "batching",
    "MLPBranch": "modules",
    "NeuralEstimator": "estimator",
    "NeuralPairEstimator": "pairs",
    "PairGroups": "pairs",
    "PosteriorEstimator": "posteriors",
    "Prepared": "pairs",
    "RBM": "rbm",
    "RBMSchedule": "rbm",
    "RBMStack": "rbm",
    "RankingEstimator": "ranking",
    "Recurrent": "sentences",
    "SentenceEstimator": "sentences",
    "Standardize": "modules",
    "TrainingWarning": "health",
    "WordEmbedding": "sentences",
    "cca_loss": "losses",
    "grad_reverse": "modules",
    "grad_reverse_schedule": "modules",
    "group_loss": "pairs",
    "hinge": "losses",
    "in_float64": "modules",
    "init_weights": "modules",
    "label_loss": "losses",
    "listening": "training",
    "masked_softmax": "modules",
    "pretrain_rbms": "rbm",
    "ranked": "ranking",
    "triplet_loss": "losses",
    "warm_up": "training",
    "whitened": "losses",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(
    __name__,
    _HOMES,
    (
        "batching",
        "canonical",
        "checkpoint",
        "estimator",
        "health",
        "losses",
        "modules",
        "pairs",
        "posteriors",
        "ranking",
        "rbm",
        "sentences",
        "training",
        "trunks",
    ),
)

if TYPE_CHECKING:
    from crossfit.neural.batching import Batch as Batch
    from crossfit.neural.batching import Items as Items
    from crossfit.neural.canonical import CanonicalEstimator as CanonicalEstimator
    from crossfit.neural.checkpoint import Checkpoint as Checkpoint
    from crossfit.neural.estimator import NeuralEstimator as NeuralEstimator
    from crossfit.neural.health import TrainingWarning as TrainingWarning
    from crossfit.neural.losses import cca_loss as cca_loss
    from crossfit.neural.losses import hinge as hinge
    from crossfit.neural.losses import label_loss as label_loss
    from crossfit.neural.losses import triplet_loss as triplet_loss
    from crossfit.neural.losses import whitened as whitened
    from crossfit.neural.modules import AttentionPool as AttentionPool
    from crossfit.neural.modules import BilinearAttention as BilinearAttention
    from crossfit.neural.modules import CharCNN as CharCNN
    from crossfit.neural.modules import MLPBranch as MLPBranch
    from crossfit.neural.modules import Standardize as Standardize
    from crossfit.neural.modules import grad_reverse as grad_reverse
    from crossfit.neural.modules import grad_reverse_schedule as grad_reverse_schedule
    from crossfit.neural.modules import in_float64 as in_float64
    from crossfit.neural.modules import init_weights as init_weights
    from crossfit.neural.modules import masked_softmax as masked_softmax
    from crossfit.neural.pairs import NeuralPairEstimator as NeuralPairEstimator
    from crossfit.neural.pairs import PairGroups as PairGroups
    from crossfit.neural.pairs import Prepared as Prepared
    from crossfit.neural.pairs import group_loss as group_loss
    from crossfit.neural.posteriors import PosteriorEstimator as PosteriorEstimator
    from crossfit.neural.ranking import HingeEstimator as HingeEstimator
    from crossfit.neural.ranking import RankingEstimator as RankingEstimator
    from crossfit.neural.ranking import ranked as ranked
    from crossfit.neural.rbm import RBM as RBM
    from crossfit.neural.rbm import RBMSchedule as RBMSchedule
    from crossfit.neural.rbm import RBMStack as RBMStack
    from crossfit.neural.rbm import pretrain_rbms as pretrain_rbms
    from crossfit.neural.sentences import Recurrent as Recurrent
    from crossfit.neural.sentences import SentenceEstimator as SentenceEstimator
    from crossfit.neural.sentences import WordEmbedding as WordEmbedding
    from crossfit.neural.training import listening as listening
    from crossfit.neural.training import warm_up as warm_up
    from crossfit.neural.trunks import AlexNet as AlexNet
