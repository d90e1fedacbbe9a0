"""Public docstrings are complete, as checked by numpydoc, for all names in the reference.

Checked are the names in docs/api.md and the public methods that their classes define.
"""

import ast
import inspect
import re
from collections import defaultdict
from pathlib import Path
from pydoc import locate

import pytest

validation = pytest.importorskip("numpydoc.validate", reason="numpydoc is of the extra docs")
scrape = pytest.importorskip("numpydoc.docscrape")

ROOT = Path(__file__).parent.parent
CHECKS = {
    "GL07": "sections in order",
    "GL08": "a docstring",
    "SS01": "a summary",
    "SS04": "a summary without leading spaces",
    "PR01": "all parameters",
    "PR02": "no parameters that do not exist",
    "PR03": "parameters in order",
    "PR07": "a description of each parameter",
    "PR10": "a space before the colon",
    "RT01": "what is returned",
    "YD01": "what is yielded",
}
# Methods that scikit-learn specifies and documents.
SKLEARN = {"get_params", "set_params", "set_output"}


def public():
    """Return the public classes, functions and methods by module, each as its dotted name."""
    found = defaultdict(set)
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in re.findall(r"^   ((?:\w+\.)*\w+)$", reference, re.MULTILINE):
        thing = locate(f"crossfit.{name}")
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue  # constants and types
        module = thing.__module__
        found[module].add(f"{module}.{thing.__qualname__}")
        for method in vars(thing) if inspect.isclass(thing) else ():
            public = not method.startswith("_") and method not in SKLEARN
            if public and callable(getattr(thing, method)):
                found[module].add(f"{module}.{thing.__qualname__}.{method}")
    return {module: sorted(names) for module, names in sorted(found.items())}


PUBLIC = public()


def inherited(thing):
    """Return the parameters that the base classes of a class describe."""
    bases = thing.__mro__[1:-1] if inspect.isclass(thing) else ()
    documented = (scrape.NumpyDocString(inspect.cleandoc(base.__doc__ or "")) for base in bases)
    return {part.strip() for doc in documented for parameter in doc["Parameters"]
            for part in parameter.name.split(",")}  # fmt: skip


def faults(name):
    """Return the faults of one docstring."""
    thing = locate(name)
    for code, message in validation.validate(name)["errors"]:
        if code not in CHECKS:
            continue
        # "Return the rows of ..." already describes the result.
        if code == "RT01" and (thing.__doc__ or "").lstrip().startswith("Return"):
            continue
        if code == "PR01":
            missing = ast.literal_eval(re.search(r"\{.*\}", message)[0])
            if getattr(thing, "_is_protocol", False) or missing <= inherited(thing):
                continue
        yield f"{name}: {code} {message}"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_docstrings_are_whole(module):
    wrong = [fault for name in PUBLIC[module] for fault in faults(name)]
    assert not wrong, "\n".join(wrong)
