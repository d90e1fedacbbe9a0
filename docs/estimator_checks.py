"""Write the tables of docs/estimator-checks.md: python docs/estimator_checks.py."""

import warnings
from pathlib import Path

import sklearn

from crossfit import registry
from crossfit.testing import check_method
from crossfit.testing.kit import EXPECTED_FAILURES

PAGE = Path(__file__).parent / "estimator-checks.md"
BEGIN, END = "<!-- written by docs/estimator_checks.py -->", "<!-- end -->"
WORDS = {"pass": "pass", "skip": "not applicable", "expected": "fail by design", "fail": "**fail**"}


def results():
    """Return the status of every check of scikit-learn for each method of the core."""
    found = {}
    for entry in registry.entries("crossfit.methods"):
        if entry.status == "ok" and entry.card.target.startswith("crossfit."):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                checks = check_method(entry.name, select="sklearn")
            found[entry.name] = {check.name: check.status for check in checks}
    return found


def written(found):
    """Return the tables as Markdown."""
    others = [name for name, checks in found.items() if set(checks) == {"sklearn"}]
    found = {name: checks for name, checks in found.items() if name not in others}
    lines = [
        f"With scikit-learn {sklearn.__version__}, for the {len(found)} methods of the core that "
        f"take two views of vectors: {', '.join(f'`{name}`' for name in found)}. "
        f"Not run on {', '.join(f'`{name}`' for name in others)}, which take words and regions.",
        "",
        "| check | methods |",
        "| --- | --- |",
    ]
    for check in sorted({check for checks in found.values() for check in checks}):
        counts: dict[str, int] = {}
        for checks in found.values():
            if check in checks:
                status = WORDS[checks[check]]
                counts[status] = counts.get(status, 0) + 1
        what = ", ".join(f"{n} {status}" for status, n in counts.items())
        lines.append(f"| `{check.removeprefix('sklearn.')}` | {what} |")
    lines += ["", "| check that may fail | methods of the core that fail it | it ... |",
              "| --- | --- | --- |"]  # fmt: skip
    for check, reason in EXPECTED_FAILURES.items():
        failing = sum(
            status == "expected" and name.partition("(")[0] == f"sklearn.{check}"
            for checks in found.values()
            for name, status in checks.items()
        )
        lines.append(f"| `{check}` | {failing or 'none'} | {reason} |")
    return "\n".join(lines)


def parts():
    """Return the text of the page before, inside and after the tables."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(f"{BEGIN}\n\n")
    inside, _, after = rest.partition(f"\n\n{END}")
    return before, inside, after


if __name__ == "__main__":
    before, _, after = parts()
    text = f"{before}{BEGIN}\n\n{written(results())}\n\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")
