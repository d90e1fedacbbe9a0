"""The page on scikit-learn's estimator checks states what is run and what fails."""

import runpy
from pathlib import Path

import pytest
import sklearn

from crossfit.testing.kit import EXPECTED_FAILURES

SCRIPT = Path(__file__).parents[2] / "docs" / "estimator_checks.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def found(script):
    return script["results"]()


def test_no_method_fails_a_check_without_a_reason(found):
    run = {name: checks for name, checks in found.items() if set(checks) != {"sklearn"}}
    assert len(run) > 20
    for name, checks in run.items():
        assert len(checks) > 40, name
        assert "fail" not in checks.values(), name
        for check, status in checks.items():
            known = check.removeprefix("sklearn.").partition("(")[0] in EXPECTED_FAILURES
            assert status != "expected" or known


def test_the_page_has_the_tables_that_the_script_writes(script, found):
    before, inside, after = script["parts"]()
    assert before.startswith("# scikit-learn's checks") and "docs/estimator_checks.py" in after
    if f"scikit-learn {sklearn.__version__}," not in inside:
        pytest.skip(f"the page was written with another version than {sklearn.__version__}")
    assert inside == script["written"](found)


def test_the_page_gives_the_reason_of_every_check_that_may_fail(script):
    inside = script["parts"]()[1]
    for check, reason in EXPECTED_FAILURES.items():
        assert f"| `{check}` |" in inside and reason in inside
