"""TextTopicNet and SSVR pass the conformance kit."""

from crossfit.testing import parametrize_with_checks
from crossfit_topicnet.estimator import SSVR, TextTopicNet


@parametrize_with_checks([TextTopicNet, SSVR])
def test_conformance(check):
    check()
