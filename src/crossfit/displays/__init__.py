"""Plots as objects that hold what they draw, in the manner of scikit-learn's displays.

A display is made from an estimator, from scores or from plain values. All of them draw into the
``ax`` that is passed, or else into a new figure, which is not registered with pyplot. What was
drawn is in ``figure_`` and ``ax_``, and can be changed there.
"""

from crossfit.displays.attention import AttentionDisplay
from crossfit.displays.class_ap import ClassAPDisplay
from crossfit.displays.gallery import GalleryDisplay
from crossfit.displays.hubness import HubnessDisplay
from crossfit.displays.precision_recall import PrecisionRecallDisplay
from crossfit.displays.recall import RecallDisplay
from crossfit.displays.spectrum import SpectrumDisplay
from crossfit.displays.training import TrainingDisplay

__all__ = [
    "AttentionDisplay",
    "ClassAPDisplay",
    "GalleryDisplay",
    "HubnessDisplay",
    "PrecisionRecallDisplay",
    "RecallDisplay",
    "SpectrumDisplay",
    "TrainingDisplay",
]
