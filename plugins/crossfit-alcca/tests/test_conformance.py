"""ACMR and ALCCA under the conformance kit."""

from crossfit.testing import parametrize_with_checks
from crossfit_alcca.estimator import ACMR, ALCCA


@parametrize_with_checks([ACMR, ALCCA])
def test_conformance(check):
    check()
