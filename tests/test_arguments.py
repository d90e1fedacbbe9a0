"""Arguments of public functions are checked as in scikit-learn, before any work starts."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfit import _arguments
from crossfit._arguments import (
    a_path,
    finite_array,
    integer,
    mapping_of,
    one_of,
    real,
    validated,
)


@validated(
    k=[integer(1), None],
    share=[real(0, 1, closed="both")],
    kind=[one_of("a", "b")],
    strict=["boolean"],
    random_state=["random_state"],
)
def function(items, k=None, *, share=0.5, kind="a", strict=False, random_state=None):
    """Return the arguments."""
    return items, k, share, kind, strict, random_state


def test_right_arguments_pass_as_they_are():
    assert function("x", 3, share=1, kind="b", strict=True, random_state=0) == (
        "x",
        3,
        1,
        "b",
        True,
        0,
    )
    assert function("x", np.int64(2), share=np.float32(0.5))[1] == 2
    assert function.__doc__ == "Return the arguments."
    assert list(inspect.signature(function).parameters)[:2] == ["items", "k"]


@pytest.mark.parametrize(
    "given",
    [
        {"k": 0},
        {"k": -1},
        {"k": 1.5},
        {"k": "3"},
        {"k": True},
        {"k": np.True_},
        {"k": np.nan},
        {"k": [1]},
        {"share": 1.01},
        {"share": np.inf},
        {"share": np.nan},
        {"share": None},
        {"share": True},
        {"kind": "c"},
        {"kind": ["a"]},
        {"kind": None},
        {"strict": "no"},
        {"strict": 2.5},
        {"random_state": "0"},
        {"random_state": -1},
    ],
    ids=str,
)
def test_wrong_arguments_are_named_with_what_was_wanted_and_what_came(given):
    (name, value), *_ = given.items()
    with pytest.raises(ValueError, match=f"{name!r} parameter of function must be") as raised:
        function("x", **given)
    assert repr(value) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("given", [((), {}), (("x", 1, 2), {}), (("x",), {"no": 1})])
def test_a_wrong_number_or_name_is_an_error_with_the_name_of_the_function(given):
    args, kwargs = given
    with pytest.raises(TypeError, match=r"^function\(\) (missing|takes|got)"):
        function(*args, **kwargs)


def test_a_constraint_names_an_argument():
    with pytest.raises(TypeError, match="has no argument 'size'"):
        validated(size=[integer()])(lambda items: items)


def test_finite_array():
    np.testing.assert_array_equal(finite_array([1, 2], "x", 1), [1, 2])
    with pytest.raises(ValueError, match=r"x must be finite, got nan at \[0, 1\] and 1 more"):
        finite_array([[1, np.nan], [np.inf, 1]], "x")
    with pytest.raises(ValueError, match=r"x must have 1 axis, got an array of shape \(1, 1\)"):
        finite_array([[1]], "x", 1)
    for wrong in (["a"], [None], [[1], [2, 3]], {1}, 1j, np.array([1], "M8[s]")):
        with pytest.raises(ValueError, match="x must"):
            finite_array(wrong, "x", 1)


def test_scikit_learn_is_imported_for_what_is_not_plainly_valid_only():
    code = (
        "import sys; from crossfit._arguments import integer, validated\n"
        "@validated(k=[integer(1)])\ndef f(k): return k\n"
        "f(1); assert 'sklearn' not in sys.modules\n"
        "try: f(0)\nexcept ValueError: assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=2),
        st.sampled_from([10**400, -(10**400), np.int64(3), np.float32(0.5), np.bool_(True)]),
    ),
    st.sampled_from([
        [integer(1)], [integer(-3, 3), None], [integer()], [real(0, 1)], [real(0, None), "boolean"],
        [real()], [real(0, 1, closed="both")], [one_of("a", "b")], ["boolean"],
        ["random_state"], [str], [int], [bool, None], [object], ["array-like"], [a_path(), None],
        [mapping_of(integer(1)), real(0)],
    ]),
)  # fmt: skip
def test_what_is_plainly_valid_is_valid_to_scikit_learn(value, parts):
    if _arguments._plainly(value, parts):
        assert _arguments._satisfied(value, parts, _arguments._built(parts))
